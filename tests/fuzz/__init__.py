"""The fuzzing targets on the inputs that fuzzing found worth keeping."""
