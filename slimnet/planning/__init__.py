"""How much of each group goes: budgets, widths that the runtime likes, the latency model."""
