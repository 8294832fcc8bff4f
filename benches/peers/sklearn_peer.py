"""scikit-learn's BernoulliRBM: PCD-1 with as many chains as rows, float32."""

import numpy as np
from sklearn.neural_network import BernoulliRBM

import common

job = common.job()
weights, b, c = common.first_parameters(job.n_hidden)
rbm = BernoulliRBM(n_components=job.n_hidden, learning_rate=job.lr, batch_size=job.rows, random_state=1)
rbm.components_ = np.asfortranarray(weights.T)
rbm.intercept_hidden_, rbm.intercept_visible_ = c, b
rbm.h_samples_ = np.zeros((job.n_chains, job.n_hidden), np.float32)
turn = 0


def run(updates):
    global turn
    for _ in range(updates):
        first = turn % job.batches * job.rows
        rbm.partial_fit(job.data[first : first + job.rows])
        turn += 1
    return updates


common.serve(run, lambda: (rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_))
