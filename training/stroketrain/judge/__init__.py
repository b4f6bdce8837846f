"""How far clicks speak: records of robot users, and the perceptron that is fitted to them."""
