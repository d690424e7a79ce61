"""The network: its shape, its pretrained weights, and what is made of both."""
