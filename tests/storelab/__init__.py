"""What the store's tests share: a small story of promotions, and ways to break the machine under it."""
