"""What a trained model says of text."""
