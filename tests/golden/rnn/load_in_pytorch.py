"""A model that Tapeloop saved, loaded by PyTorch: every name fits, and the outputs are the same.

    pip install torch==2.13.0 safetensors && python3 load_in_pytorch.py BUILD_DIRECTORY

compiles save_model.c against the library in the build directory, runs it, and reads what it wrote.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

WORDS, INPUT, HIDDEN, PROJECTION, OUTPUT = 11, 4, 6, 5, 2  # as in save_model.c


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(WORDS, INPUT)
        self.encoder = torch.nn.GRU(INPUT, HIDDEN, num_layers=2, bidirectional=True)
        self.middle = torch.nn.LSTM(2 * HIDDEN, HIDDEN, proj_size=PROJECTION)
        self.top = torch.nn.RNN(PROJECTION, HIDDEN)
        self.decoder = torch.nn.Linear(HIDDEN, OUTPUT)

    def forward(self, words):
        x = self.embedding(words)
        for layer in (self.encoder, self.middle, self.top):
            x, _ = layer(x)
        return self.decoder(x)


def saved(build):
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run(["cc", "-std=c11", f"-I{build}/include", here / "save_model.c", "-o", folder / "save_model",
                        f"-L{build}", "-ltapeloop", "-lm", f"-Wl,-rpath,{build}"], check=True)
        paths = folder / "model.safetensors", folder / "answers.safetensors"
        subprocess.run([folder / "save_model", *paths], check=True)
        return [load_file(path) for path in paths]


parameters, answers = saved(pathlib.Path(sys.argv[1]).resolve())
model = Model().double()
model.load_state_dict(parameters)  # strict: no name missing, none unknown
with torch.no_grad():
    y = model(answers["words"])
error = (y - answers["y"]).abs().max().item()
print(f"{len(parameters)} parameters loaded; y[0,0] is {answers['y'][0, 0].tolist()} in the file, "
      f"{y[0, 0].tolist()} in PyTorch; largest difference {error:.2g}")
sys.exit(not error <= 1e-12)
