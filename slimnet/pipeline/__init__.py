"""The jobs behind the verbs: one file each."""
