"""The weight-sharing supernet: what a network is, how it is trained and measured."""
