"""What a run, a model and an account's region are: pure, without an AWS client."""
