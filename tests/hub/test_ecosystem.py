"""transformers, peft and datasets, unmodified: what they push to the hub they load from it."""

from __future__ import annotations

from hubs import Client


def test_transformers_and_peft_push_and_load(client: Client) -> None:
    seen = client.run(
        """
        import torch
        from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({"<eos>": 0, "hello": 1, "world": 2, "<unk>": 3}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="<unk>")
        config = LlamaConfig(vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)
        model = LlamaForCausalLM(config)
        model.push_to_hub("me/tiny", private=True)
        tokenizer.push_to_hub("me/tiny")

        def same(left, right):
            left, right = left.state_dict(), right.state_dict()
            return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)

        loaded = AutoModelForCausalLM.from_pretrained("me/tiny")
        ids = AutoTokenizer.from_pretrained("me/tiny")("hello world")["input_ids"]
        adapter = get_peft_model(loaded, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        adapter.push_to_hub("me/tiny-lora", private=True)
        base = AutoModelForCausalLM.from_pretrained("me/tiny")
        both = PeftModel.from_pretrained(base, "me/tiny-lora")
        auto = AutoPeftModelForCausalLM.from_pretrained("me/tiny-lora")
        x = torch.tensor([ids])
        info = api.model_info("me/tiny-lora")
        print(json.dumps([same(model, AutoModelForCausalLM.from_pretrained("me/tiny")), ids, same(adapter, both),
                          torch.equal(adapter(x).logits, auto(x).logits), info.private,
                          api.model_info("me/tiny").safetensors.total == sum(p.numel() for p in model.parameters())]))
        """
    )
    assert seen == [True, [1, 2], True, True, True, True]


def test_datasets_push_and_load(client: Client) -> None:
    seen = client.run(
        """
        from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
        rows = Dataset.from_dict({"text": [f"row {i}" for i in range(100)], "label": list(range(100))})
        DatasetDict(train=rows.select(range(90)), test=rows.select(range(90, 100))).push_to_hub("me/rows", private=True)
        rows.select(range(5)).push_to_hub("me/rows", config_name="small", max_shard_size="1KB")
        whole, small = load_dataset("me/rows"), load_dataset("me/rows", "small", split="train")
        streamed = next(iter(load_dataset("me/rows", split="test", streaming=True)))
        api.create_repo("me/plain", repo_type="dataset")
        csv = b"a,b\\n1,2\\n"
        api.upload_file(path_or_fileobj=csv, path_in_repo="data.csv", repo_id="me/plain", repo_type="dataset")
        plain = load_dataset("me/plain", split="train")
        info = api.dataset_info("me/rows")
        print(json.dumps([whole["train"].to_dict() == rows.select(range(90)).to_dict(), small["label"][:], streamed,
                          plain[0], sorted(get_dataset_config_names("me/rows")), info.private]))
        """
    )
    streamed = {"text": "row 90", "label": 90}
    assert seen == [True, [0, 1, 2, 3, 4], streamed, {"a": 1, "b": 2}, ["default", "small"], True]
