"""What is on disk: ledger, object store, locks, atomic writes, digests."""
