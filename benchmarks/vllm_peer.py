"""vLLM as a contender, run in its own environment: `build/vllm/bin/python -m benchmarks.vllm_peer MODEL FOLDER ...`.

Knows vLLM's offline class at the settings that are best for it here: as many LoRAs as it is given folders, rank 8,
bf16, no prefix cache (nobody else has read these prompts either). Needs nothing of the project but `contender`.
"""

from __future__ import annotations

import sys

from benchmarks.contender import Job, answering, serve

ROWS, CONTEXT, RANK = 32, 1024, 8


def main(model: str, folders: list[str]) -> None:
    answering()
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest

    loras = {"enable_lora": True, "max_loras": len(folders), "max_lora_rank": RANK} if folders else {}
    engine = LLM(
        model=model, dtype="bfloat16", max_num_seqs=ROWS, max_model_len=CONTEXT, enable_prefix_caching=False,
        disable_log_stats=True, **loras,
    )  # fmt: skip
    requests = [LoRARequest(f"adapter-{n}", n + 1, folder) for n, folder in enumerate(folders)]

    def generate(job: Job) -> int:
        wanted = SamplingParams(temperature=0.0, max_tokens=job.tokens, ignore_eos=True, detokenize=False)
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in job.prompts]
        rows = [requests[row % job.adapters] for row in range(len(prompts))] if job.adapters else None
        outs = engine.generate(prompts, wanted, lora_request=rows, use_tqdm=False)
        return sum(len(out.outputs[0].token_ids) for out in outs)

    serve(generate)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
