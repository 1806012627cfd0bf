"""Makes the pages of methods and of the reference from the code of sslx."""
