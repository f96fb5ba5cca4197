"""From forecast features to pictures: an autoencoder, a renderer in its latents, and a finisher."""
