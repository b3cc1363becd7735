#!/usr/bin/env python3
"""Replay recorded TensorFlow Serving answers against a running server and report what differs.

    python replay.py --rest localhost:8501 --grpc localhost:8500 rest.jsonl grpc.jsonl [--verbose]

The server must serve the models of models/ with models.config (replace ${MODELS} by the folder).
REST: the status is compared, then the body as JSON (object order and NaN spelling do not matter;
a non-JSON body must be equal as text), then Content-Type. gRPC: status code, message (unless the
record says `core_text`: those come from the gRPC core and vary by its version) and the response
as a protocol buffer. Exit status 1 if anything differs. Needs grpcio and tensorflow-serving-api.
"""

import argparse
import base64
import http.client
import json
import math
import sys


def lenient(text):
    """JSON as TensorFlow Serving writes it: NaN and Infinity are bare words."""
    return json.loads(text)


def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
            return False
        if isinstance(a, bool) or isinstance(b, bool):
            return a is b
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b or abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def of_any_processor(text):
    """Without the flags that TensorFlow's message about a product has only where oneDNN computes it."""
    return text.replace("In[0]: [1,2], In[1]: [1,2] 0 0", "In[0]: [1,2], In[1]: [1,2]")


def same_message(want, got, subst):
    """Equal, but what follows a dumped signature is free: protobuf varies that text on purpose."""
    want, got = of_any_processor(want), of_any_processor(got)
    for k, v in subst.items():
        got = got.replace(v, k)
    mark = want.find("goo.gle/debug")
    return want == got if mark < 0 else got.startswith(want[:mark])


def same_text(want, got, subst):
    want, got = of_any_processor(want), of_any_processor(got)
    if same_message(want, got, subst):
        return True
    for k, v in subst.items():
        got = got.replace(v, k)
    try:
        return same(lenient(want), lenient(got))
    except ValueError:
        return False


def rest(case, host, subst):
    encoded = case.get("request_body_b64")
    body = base64.b64decode(encoded) if encoded else case.get("request_body")
    if isinstance(body, str):
        body = body.encode()
    c = http.client.HTTPConnection(host, timeout=30)
    c._validate_path = lambda _: None
    c.putrequest(case["method"], case["path"], skip_host=True, skip_accept_encoding=True)
    for k, v in case["request_headers"]:
        c.putheader(k, v)
    c.endheaders(body)
    r = c.getresponse()
    data = r.read()
    c.close()
    if r.status != case["status"]:
        return f"status {r.status}, recorded {case['status']}: {data[:160]!r}"
    want = case["response_body"]
    if case.get("response_body_b64"):
        return None if data == base64.b64decode(case["response_body_b64"]) else "binary body differs"
    got = data.decode("utf-8", "replace")
    options = [want, *(case.get("body_varies") or [])]
    if case.get("group") != "prometheus" and not any(same_text(o, got, subst) for o in options):
        return f"body {got[:200]!r}, recorded {want[:200]!r}"
    ctype = dict(case["response_headers"]).get("Content-Type")
    if ctype and r.headers.get("Content-Type", "").split(";")[0] != ctype.split(";")[0]:
        return f"Content-Type {r.headers.get('Content-Type')}, recorded {ctype}"
    return None


def response_types():
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    p, m = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
    return {
        p + "Predict": predict_pb2.PredictResponse,
        p + "Classify": classification_pb2.ClassificationResponse,
        p + "Regress": regression_pb2.RegressionResponse,
        p + "MultiInference": inference_pb2.MultiInferenceResponse,
        p + "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataResponse,
        m + "GetModelStatus": get_model_status_pb2.GetModelStatusResponse,
        m + "HandleReloadConfigRequest": model_management_pb2.ReloadConfigResponse,
    }


def grpc_case(case, channel, types, subst):
    import grpc

    raw = base64.b64decode(case["request_b64"])
    call = channel.unary_unary(
        case["method"], request_serializer=lambda b: b, response_deserializer=lambda b: b
    )
    try:
        got, code, details = call(raw, timeout=case.get("timeout", 30)), "OK", ""
    except grpc.RpcError as e:
        got, code, details = None, e.code().name, e.details() or ""
    if code != case["code"]:
        return f"code {code} ({details[:160]}), recorded {case['code']} ({case['details'][:160]})"
    if code != "OK":
        if not case.get("core_text") and not same_message(case["details"], details, subst):
            return f"message {details[:300]!r}, recorded {case['details'][:300]!r}"
        return None
    want = base64.b64decode(case["response_b64"] or "")
    if got == want:
        return None
    kind = types.get(case["method"])
    if kind is None:
        return "bytes differ"
    from google.protobuf.json_format import MessageToDict

    a, b = kind.FromString(want), kind.FromString(got)
    if a == b or same(MessageToDict(a), MessageToDict(b)):
        return None
    return f"response {str(b)[:240]!r}, recorded {str(a)[:240]!r}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+")
    p.add_argument("--rest", default="localhost:8501")
    p.add_argument("--grpc", default="localhost:8500")
    p.add_argument("--models", default="", help="folder that stands for ${MODELS} in recorded texts")
    p.add_argument("--only", default="", help="only ids that contain this")
    p.add_argument("--verbose", action="store_true")
    a = p.parse_args()
    subst = {"${MODELS}": a.models} if a.models else {}
    channel, types = None, None
    n = bad = 0
    for path in a.files:
        with open(path, encoding="utf-8") as lines:
            cases = [json.loads(line) for line in lines]
        for case in cases:
            if a.only and a.only not in case["id"]:
                continue
            try:
                if case["transport"] == "rest":
                    why = rest(case, a.rest, subst)
                else:
                    if channel is None:
                        import grpc

                        types = response_types()
                        channel = grpc.insecure_channel(
                            a.grpc,
                            options=[
                                ("grpc.max_receive_message_length", -1),
                                ("grpc.max_send_message_length", -1),
                            ],
                        )
                    why = grpc_case(case, channel, types, subst)
            except Exception as e:  # a broken answer is a difference, not the end of the replay
                why = f"{type(e).__name__}: {e}"
            n += 1
            if why:
                bad += 1
                print(f"DIFF {case['transport']} {case['group']}/{case['id']}: {why}")
            elif a.verbose:
                print(f"ok   {case['transport']} {case['group']}/{case['id']}")
    print(f"{n - bad} of {n} as recorded")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
