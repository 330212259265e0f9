"""What a run found out, for machines and people."""
