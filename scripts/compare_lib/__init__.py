"""Compares the dispatching policies under one workload."""
