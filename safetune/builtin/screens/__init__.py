"""Screens: the model itself says which training rows look dangerous. Worker side: may import torch."""
