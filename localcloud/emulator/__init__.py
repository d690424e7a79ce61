"""What MiniStack accepts and AWS would refuse, and the services that it lacks."""
