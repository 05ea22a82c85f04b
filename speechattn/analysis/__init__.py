"""What the heads of a trained encoder attend to, and what changes when they may attend to less. Numbers, no figures."""
