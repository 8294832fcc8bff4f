"""Trains a model for MINUTES, writes it and prints a line of JSON: PROTOCOL MINUTES SEED FILE PROGRAM [NAME=VALUE]...

PROGRAM is numpy, jax, scikit-learn or rbms, with the parameters of its function below. Loading, compiling and trial runs
before training do not count as its minutes.
"""

import json
import sys
import time

import numpy as np
import safetensors.numpy

import common
import density

HIDDEN = 500
L2 = {"sampled": 2e-4, "thresholded": 3e-4}


def recipe_of(port):
    def train(grey, protocol, seconds, seed):
        recipe = density.Recipe(protocol == "sampled", L2[protocol], HIDDEN, seed=seed)
        updates = density.planned(port, recipe, grey, seconds)
        start = time.perf_counter()
        return density.train(port, recipe, grey, updates), updates, time.perf_counter() - start

    return train


def scikit_learn(grey, protocol, seconds, seed, lr=0.1, rows=100):
    """PCD-1 with as many chains as rows. Grey levels are binarised anew in every epoch."""
    from sklearn.neural_network import BernoulliRBM

    rbm = BernoulliRBM(n_components=HIDDEN, learning_rate=lr, batch_size=rows, random_state=seed)
    generator = np.random.default_rng(seed)
    start, updates = time.perf_counter(), 0
    while True:
        order = generator.permutation(len(grey)).reshape(-1, rows)
        bits = grey
        if protocol == "sampled":
            bits = (generator.random(grey.shape, np.float32) < grey).astype(np.float32)
        for batch in order:
            rbm.partial_fit(bits[batch])
            updates += 1
            taken = time.perf_counter() - start
            if taken >= seconds:
                return (rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_), updates, taken


def rbms(grey, protocol, seconds, seed, lr=0.01, k=100, rows=2000, chains=2000):
    """The loop of the rbms command without its files; the defaults are the command's."""
    import torch
    from rbms.dataset.dataset_class import RBMDataset
    from rbms.map_model import map_model
    from rbms.training.pcd import fit_batch_pcd

    torch.manual_seed(seed)
    nothing = np.zeros(len(grey), np.float32)
    dataset = RBMDataset(grey, nothing, nothing + 1, nothing, "MNIST", is_binary=True, device="cpu")
    model = map_model["BBRBM"].init_parameters(HIDDEN, dataset, "cpu", torch.float32)
    model.init_grad()
    state = model.sample_state(model.init_chains(chains), k)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, maximize=True)
    start, updates, taken = time.perf_counter(), 0, 0
    with torch.no_grad():
        while taken < seconds:
            chosen = torch.randint(len(grey), (rows,))
            batch = dataset.data[chosen]
            if protocol == "sampled":
                batch = torch.bernoulli(batch)
            optimizer.zero_grad(set_to_none=False)
            state, _ = fit_batch_pcd((batch, dataset.weights[chosen]), state, model, k, beta=1.0)
            optimizer.step()
            updates += 1
            taken = time.perf_counter() - start
    parameters = [x.numpy() for x in (model.weight_matrix, model.vbias, model.hbias)]
    theirs = model.compute_energy_visibles(torch.from_numpy(grey[:10].round())).numpy()
    # rbms replaces log(1 + e^x) by x from 10 on.
    if not np.allclose(theirs, free_energy(grey[:10].round(), *parameters), rtol=1e-5, atol=HIDDEN * np.exp(-10)):
        sys.exit("rbms has another energy than expected")
    return parameters, updates, taken


def free_energy(v, w, b, c):
    v, w, b, c = (x.astype(np.float64) for x in (v, w, b, c))
    return -v @ b - np.logaddexp(0, v @ w + c).sum(1)


PROGRAMS = {
    "numpy": recipe_of(density.Numpy),
    "jax": recipe_of(density.Jax),
    "scikit-learn": scikit_learn,
    "rbms": rbms,
}


def main():
    protocol, minutes, seed, path, program, *settings = sys.argv[1:]
    x = common.images("train")[: common.ROWS]
    grey = x / np.float32(255) if protocol == "sampled" else (x >= 128).astype(np.float32)
    settings = {name: json.loads(value) for name, value in (x.split("=") for x in settings)}
    parameters, updates, seconds = PROGRAMS[program](grey, protocol, 60 * float(minutes), int(seed), **settings)
    tensors = [np.ascontiguousarray(x, np.float32) for x in parameters]
    safetensors.numpy.save_file(dict(zip(["weights", "visible_bias", "hidden_bias"], tensors)), path)
    print(json.dumps({"updates": updates, "minutes": seconds / 60}))


if __name__ == "__main__":
    main()
