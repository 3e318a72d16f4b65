"""The same file behind FastAPI, as it is usually written: pydantic in, a session, a dict out."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
none = np.empty((1, 0), dtype=object)
app = FastAPI()


class Question(BaseModel):
    history: list[str]
    k: int = 10


@app.post("/v1/recommend")
def recommend(question: Question):
    history = np.array([question.history], dtype=object)
    feed = {"history": history, "exclude": history, "candidates": none}
    feed["k"] = np.array([question.k])
    items, scores, n_known, titles = session.run(["items", "scores", "n_known", "titles"], feed)
    found = zip(items[0].tolist(), scores[0].tolist(), titles[0].tolist(), strict=True)
    return {
        "items": [{"id": id_, "score": score, "title": title} for id_, score, title in found],
        "n_known": int(n_known[0]),
    }
