"""The whole of Atelier in a few minutes: data to model to images, through every real component, with a page to look at in the end."""
