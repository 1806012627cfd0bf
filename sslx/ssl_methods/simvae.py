from sslx.api import VAE


class SimVAE(VAE, prior="shared-mean"):
    """A VAE in which related views share a cluster, whose mean is integrated out (SimVAE, Eq. 6 and A.7.1).

    The paper has J = 10 views, a learning rate of 8e-5 for 400 epochs, and batches of 128, in which its code counts
    views: 12 images with 10 views each, `--batch-size 12 --views 10`, and `--set train.eps=1e-4`. The defaults of a
    run, two views of 64 images and a rate of 1e-3, learn more in the few minutes that a run on a CPU takes.

    MNIST is binarized: `--set dataset.binarize=true --set views.binarize=true`. The order of the layers of an MLP and
    the networks are those of Tables 3 and 4, from which the code differs. Table 4 is written for images of 64 pixels;
    at 32 pixels, as on CIFAR-10, the last layer of the encoder has 1024 inputs instead of 4096. A discrete y is
    `prior=mixture`, with `prior.assignment=hard` for q(y|z) = δ. The variance of 0.02 is stated for SimVAE, β-VAE and
    CR-VAE, but not for the VAE, whose variance is unknown; here all have the same default.
    """
