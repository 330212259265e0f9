"""Why a network prunes the way it does: criteria and their agreement, weight distributions, compressibility."""
