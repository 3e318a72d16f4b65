"""A web app of your own around a model file: MODEL=model.onnx uvicorn app:app"""

import os
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import StrictInt

from attnrec.runtime import Recommender

recommender = Recommender.load(os.environ["MODEL"])
app = FastAPI()


@app.post("/recommend")
def recommend(
    history: Annotated[list, Body(max_length=10_000)],  # what is in it, the Recommender checks
    k: Annotated[StrictInt, Body(ge=1, le=100)] = 10,
) -> dict:
    try:
        answer = recommender.recommend(history, k)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return {"item_ids": answer.item_ids, "scores": answer.scores, "titles": answer.titles}


@app.exception_handler(RequestValidationError)
def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """FastAPI would repeat what was sent, and fail with 500 where it holds NaN."""
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return JSONResponse({"detail": "; ".join(faults)}, 422)
