"""View policies, which make several random views of each image, and the backends that compute them."""
