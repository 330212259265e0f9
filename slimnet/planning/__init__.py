"""Which units go: budgets, widths that the runtime likes, and the plan on disk."""
