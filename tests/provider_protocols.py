"""How providers write a request and an answer: OpenAI's way, Anthropic's, Gemini's, Ollama's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.model_server import Answer

JSON, EVENTS, LINES = "application/json", "text/event-stream", "application/x-ndjson"


def as_chat(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Returns a request as OpenAI's protocol would put it."""
    if "generateContent" in path or "GenerateContent" in path:
        system = _join_parts(body.get("system_instruction") or body.get("systemInstruction") or {})
        messages = [{"role": "system", "content": system}] if system else []
        messages += [
            {"role": item.get("role", "user"), "content": _join_parts(item)}
            for item in body["contents"]
        ]
        limit = body.get("generationConfig", {}).get("max_output_tokens")
        return {"model": path, "messages": messages, "max_tokens": limit}
    if path.startswith("/v1/messages"):
        system = body.get("system", "")
        messages = [{"role": "system", "content": _flat(system)}] if system else []
        messages += [
            {"role": item["role"], "content": _flat(item["content"])} for item in body["messages"]
        ]
        return {**body, "messages": messages}
    if path.startswith("/api/generate"):
        return {**body, "messages": [{"role": "user", "content": body.get("prompt", "")}]}
    return body


def encode(path: str, body: Mapping[str, Any], answer: Answer) -> tuple[str, list[bytes]]:
    """Returns the content type of an answer and its pieces, in the protocol of a path."""
    if not answer.is_plain:
        return JSON, [answer.encode(body.get("model", ""))]
    if "enerateContent" in path:
        return _encode_gemini(path, answer)
    if path.startswith("/v1/messages"):
        return _encode_anthropic(body, answer)
    if path.startswith("/api/"):
        return _encode_ollama(path, body, answer)
    if body.get("stream"):
        return EVENTS, [*_stream_openai(body, answer), b"data: [DONE]\n\n"]
    return JSON, [answer.encode(body.get("model", ""))]


def _stream_openai(body: Mapping[str, Any], answer: Answer) -> list[bytes]:
    def part(choices: list[Any], **more: Any) -> bytes:
        head = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body.get("model", ""),
        }
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    parts = []
    if answer.has_choices:
        parts.append(part(choice({"role": "assistant", "content": ""})))
        parts += [
            part(choice({"reasoning_content": text})) for text in _cut(answer.thinking, answer)
        ]
        texts = [answer.parts] if answer.parts else _cut(answer.text or "", answer)
        parts += [part(choice({"content": text})) for text in texts]
        parts.append(part(choice({}, answer.finish_reason)))
    if answer.has_usage and (body.get("stream_options") or {}).get("include_usage"):
        parts.append(part([], usage=answer.usage))
    return parts


def _encode_anthropic(body: Mapping[str, Any], answer: Answer) -> tuple[str, list[bytes]]:
    blocks = [{"type": "thinking", "thinking": answer.thinking, "signature": "s"}]
    blocks = [*(blocks if answer.thinking else []), {"type": "text", "text": answer.text or ""}]
    usage = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens}
    reason = {"stop": "end_turn", "length": "max_tokens"}.get(
        answer.finish_reason or "", "end_turn"
    )
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", ""),
        "stop_reason": reason, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    if not body.get("stream"):
        return JSON, [json.dumps({**message, "content": blocks}).encode()]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(blocks):
        kind = str(block["type"])
        empty = {"thinking": "", "signature": ""} if kind == "thinking" else {"text": ""}
        start = {"type": "content_block_start", "index": index}
        events.append({**start, "content_block": {"type": kind, **empty}})
        for text in _cut(str(block[kind]), answer):
            delta = {"type": f"{kind}_delta", kind: text}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reason, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
    return EVENTS, [
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    ]


def _encode_gemini(path: str, answer: Answer) -> tuple[str, list[bytes]]:
    reason = {"stop": "STOP", "length": "MAX_TOKENS"}.get(answer.finish_reason or "", "STOP")
    usage = {
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": answer.completion_tokens - answer.thinking_tokens,
        "thoughtsTokenCount": answer.thinking_tokens,
        "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
    }
    parts = [{"text": answer.thinking, "thought": True}] if answer.thinking else []

    def piece(parts: list[Any], **more: Any) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        return {"candidates": [candidate], "modelVersion": "gemini"}

    if "streamGenerateContent" not in path:
        parts = [*parts, {"text": answer.text or ""}]
        whole = {**piece(parts, finishReason=reason), "usageMetadata": usage}
        return JSON, [json.dumps(whole).encode()]
    pieces = [piece([part]) for part in parts]
    pieces += [piece([{"text": text}]) for text in _cut(answer.text or "", answer)]
    pieces.append({**piece([{"text": ""}], finishReason=reason), "usageMetadata": usage})
    return EVENTS, [b"data: " + json.dumps(item).encode() + b"\r\n\r\n" for item in pieces]


def _encode_ollama(path: str, body: Mapping[str, Any], answer: Answer) -> tuple[str, list[bytes]]:
    def line(text: str, thinking: str = "", **more: Any) -> bytes:
        head = {"model": body.get("model", ""), "created_at": "2026-01-01T00:00:00Z"}
        if path.startswith("/api/chat"):
            message = {"role": "assistant", "content": text}
            head |= {"message": {**message, "thinking": thinking} if thinking else message}
        else:
            head |= {"response": text, **({"thinking": thinking} if thinking else {})}
        return json.dumps({**head, "done": False, **more}).encode() + b"\n"

    end = {
        "done": True,
        "done_reason": answer.finish_reason,
        "prompt_eval_count": answer.prompt_tokens,
        "eval_count": answer.completion_tokens,
    }
    if path.startswith("/api/show"):
        return JSON, [b'{"template": "", "model_info": {}}']
    if not body.get("stream"):
        return JSON, [line(answer.text or "", answer.thinking, **end)]
    thoughts = [line("", text) for text in _cut(answer.thinking, answer)]
    return LINES, [*thoughts, *map(line, _cut(answer.text or "", answer)), line("", **end)]


def _cut(text: str, answer: Answer) -> list[str]:
    size = max(-(-len(text) // answer.pieces), 1)
    return [text[at : at + size] for at in range(0, len(text), size)]


def _flat(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def _join_parts(item: Mapping[str, Any]) -> str:
    return _flat(item.get("parts", []))
