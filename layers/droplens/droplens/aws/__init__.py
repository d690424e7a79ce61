"""AWS as the functions use it: requests, events and errors of one service a module."""
