"""The torch model behind FastAPI, as it is usually written: dictionary, forward pass, top-k."""

import os
from pathlib import Path

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from attnrec.train.runs.run import Run

torch.set_num_threads(1)
run = Run.load(Path(os.environ["RUN"]))
model = run.model.eval()
ids = run.split.catalogue.item_ids.tolist()
titles = run.split.catalogue.titles.tolist()
row_of = {item_id: row for row, item_id in enumerate(ids, start=1)}
table = model.item_table().detach()
app = FastAPI()


class Question(BaseModel):
    history: list[str]
    k: int = 10


@app.post("/v1/recommend")
def recommend(question: Question):
    rows = [row_of[item_id] for item_id in question.history if item_id in row_of]
    history = torch.tensor([rows[-model.config.max_len :]])
    with torch.inference_mode():
        state = model.state(torch.nn.functional.embedding(history, table), history > 0)
        scores = state[0] @ table.T
        scores[0] = -torch.inf
        scores[rows] = -torch.inf
        best, where = scores.topk(question.k)
    found = zip(where.tolist(), best.tolist(), strict=True)
    return {
        "items": [
            {"id": ids[row - 1], "score": score, "title": titles[row - 1]} for row, score in found
        ],
        "n_known": len(rows),
    }
