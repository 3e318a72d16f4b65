"""Show customers of a shop what to buy next. Needs numpy and onnxruntime, no training code.

python shop.py model.onnx < customers.jsonl
"""

import json
import sys

from attnrec.runtime import Recommender

recommender = Recommender.load(sys.argv[1])
info = recommender.info
print(f"{info.model}, {info.n_items:,} products, answering with numpy and onnxruntime alone")
print("torch loaded:", "torch" in sys.modules)

for line in sys.stdin:
    customer = json.loads(line)
    history, bought_next = customer["history"], customer["bought_next"]
    # Any known item has a title: ask for the history itself, as the candidates.
    known = recommender.recommend([], len(history), candidates=history)
    title_of = dict(zip(known.item_ids, known.titles or known.item_ids, strict=True))
    print("\nA customer bought, most recently:")
    for item_id in history[-6:]:
        print(f"     {title_of.get(item_id, item_id)}")
    answer = recommender.recommend(history, k=8)
    print("You may also like:")
    for place, (item_id, score) in enumerate(answer.pairs()):
        title = answer.titles[place] if answer.titles else item_id
        mark = "   <- what the customer really took next" if item_id == bought_next else ""
        print(f"  {place + 1}. {title:<40} {score:6.2f}{mark}")
    if "price" in info.rules.get("numbers", {}):
        # Rules are part of a request: a price, and of things with one word in their title one.
        cap = {"title": 1} if "title" in info.rules["tags"] else None
        cheap = recommender.recommend(history, k=3, at_most={"price": 1}, max_per=cap)
        of_each = ", of each word one" if cap else ""
        print(f"For 1 pound at most{of_each} ({cheap.n_allowed:,} products): "
              f"{', '.join(cheap.titles or map(str, cheap.item_ids))}")  # fmt: skip
