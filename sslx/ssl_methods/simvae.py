from sslx.api import VAE


class SimVAE(VAE, prior="shared-mean"):
    """A VAE in which related views share a cluster, whose mean is integrated out (SimVAE, Eq. 6 and A.7.1).

    The paper has J = 10 views, 128 views a step and a learning rate of 8e-5 for 400 epochs. The defaults of a run, two
    views of 64 images and a rate of 1e-3, learn more in the few minutes that a run on a CPU takes.
    """
