"""A bare echo on the stack of attnrec-serve: what HTTP costs when nothing is done."""


async def app(scope, receive, send):
    body = (await receive())["body"]
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
