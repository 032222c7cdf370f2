"""What can be tried: architectures, training plans, the space they span, and the study that searches it."""
