"""What was tried: trial stores with leases, the Hyperopt bridge, the master that proposes and the worker that tries."""
