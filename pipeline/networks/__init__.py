"""A drawn-up network becomes a Keras model that predicts on the devices at hand."""
