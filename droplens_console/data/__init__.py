"""What pages show, read from the stack: a module for each subject, without a web framework."""
