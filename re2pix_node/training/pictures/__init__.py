"""How pictures of forecasts are learnt: vae, renderer, finisher."""
