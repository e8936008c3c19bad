"""How close this machine comes to the hardware limit; each figure stands beside its baseline."""
