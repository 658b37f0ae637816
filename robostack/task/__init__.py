"""What a task means: its specification, its predicates and their evaluation."""
