"""The soak: mixed tasks on a pool whose workers are killed at random; each must end once, and as it may."""
