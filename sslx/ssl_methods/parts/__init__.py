"""Parts that several methods use: priors, posteriors, likelihoods, objectives and the sampler of energies."""
