"""Families: the wiring that several methods share; plugins extend it as the built-in methods do."""

from sslx.families.autoencoder import Autoencoder as Autoencoder
from sslx.families.bank import Bank as Bank, cross_entropy_of_known as cross_entropy_of_known
from sslx.families.encoded import Encoded as Encoded
from sslx.families.heads import activation as activation, head as head
from sslx.families.joint_embedding import JointEmbedding as JointEmbedding
from sslx.families.predicate import Predicate as Predicate, logsumexp as logsumexp
from sslx.families.projected import Projected as Projected
from sslx.families.prototypical import Assignment as Assignment, Prototypical as Prototypical
from sslx.families.pseudo_labels import PseudoLabels as PseudoLabels
from sslx.families.vae import VAE as VAE
