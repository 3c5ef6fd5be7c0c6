"""Training-time safety techniques. Worker side: may import torch."""
