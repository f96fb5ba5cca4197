"""How the small forecaster is learnt."""
