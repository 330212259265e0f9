"""The proof that the slim network equals the masked one."""
