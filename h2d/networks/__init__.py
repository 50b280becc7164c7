"""What the models are: the hand generator, the ControlNet of the outpainter and the frozen parts they share."""
