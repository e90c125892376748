import numpy as np

A = np.arange(24.0).reshape(6, 4) / 24
B = np.linspace(0.25, 1.0, 24).reshape(6, 4)
C = np.full((6, 4), 1e5)
