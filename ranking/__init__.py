"""How much would they care: features, labels, training, bundles, the scorer and its Serve replica."""
