"""How much would they care: features, labels, training, bundles, the scorer and its Serve replica."""

import os

# XGBoost's threads spin while they wait for one another. Where cores are shared, as on a laptop or between replicas, the
# one that is waited for then does not get to run: training took 4 to 8 times as long. Read when XGBoost is first loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
