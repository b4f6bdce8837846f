"""The test bench: how good a model is on people, masks and a procedure it was not trained on."""
