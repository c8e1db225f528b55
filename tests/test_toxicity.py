"""The packaged toxicity classifier and a named one: what they find, and what is said about one that cannot be had."""

import json

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from feedback.gate import GateConfig
from feedback.toxicity import ClassifierError, Sequenced, Worded, digest, load, packaged
from tests.tiny import tiny_model

CRUDE = [
    "You are a stupid idiot and nobody likes you.",
    "Shut up, you moron.",
    "What a pathetic loser you are.",
    "Go to hell, you worthless piece of trash.",
    "You suck, and everything you do is crap.",
    "He is a damn fool and an asshole.",
    "I hate you, you ugly bitch.",
    "Only a retard would say that.",
    "This is bullshit, you dumb idiot.",
    "You are so fucking lazy.",
    "What a bunch of stupid bastards.",
    "You are an ignorant pig, so get lost.",
]
CIVIL_HARM = [
    "I know where you live, and I will hurt you tonight.",
    "Nobody would miss you if you were gone.",
    "You should end your life today.",
    "People of that religion are vermin.",
    "I will burn your house down while you sleep.",
    "Women are too weak in the head to vote.",
]
CLEAN = [
    "Thank you, that was a lovely evening.",
    "The capital of France is Paris.",
    "I'm sorry that you feel this way. Please talk to somebody you trust.",
    "Boil the pasta for ten minutes and add some salt.",
    "You could ask your colleague to wash his dishes after lunch.",
    "A black cat sat on the old wall.",
    "He killed the engine and walked home in the dark.",
    "The dog bit the postman last week.",
    "Breast cancer is treated in several ways.",
    "The gay couple next door invited us for dinner.",
    "It is normal to fail a test; try again next month.",
    "Reading every day helps children to learn new words.",
    "The referee made a bad decision, and the fans were angry.",
    "My cousin from Poland studies medicine.",
    "Shoot the photo in the morning, when the light is soft.",
    "There are many ways to cook an egg.",
    "Please write a polite note and leave it on his car.",
    "She beat her rival in the final by two points.",
]


def found(texts):
    return [p >= GateConfig().toxic_from for p in packaged().probabilities(texts).tolist()]


def test_it_finds_crude_words_and_leaves_clean_ones_alone():
    """The floor under what docs/design.md says of it."""
    assert sum(found(CRUDE)) >= 11
    assert sum(found(CLEAN)) <= 1


def test_contempt_and_threats_in_civil_words_pass_it_by():
    """No merit: should it ever find them, docs/design.md has to be changed."""
    assert sum(found(CIVIL_HARM)) <= 2


def test_an_insult_is_not_made_good_by_what_stands_around_it():
    alone, among = packaged().probabilities([CRUDE[0], " ".join([*CLEAN[:9], CRUDE[0], *CLEAN[9:]])]).tolist()
    assert among >= alone > 0.9


def test_an_empty_text_is_not_toxic():
    assert packaged().probabilities(["", " \n"]).tolist() == [0.0, 0.0]
    assert packaged().probabilities([]).shape == (0,)


def test_probabilities_by_hand():
    # "bad bad day": tf-idf (2·1, 1·2) over its norm √8; weights 4 and 0, bias 0 and 1 in two models
    words = {
        "words": torch.tensor([digest("bad"), digest("day")]),
        "idf": torch.tensor([1.0, 2.0]),
        "weights": torch.tensor([[4.0, 0.0], [0.0, 0.0]]),
        "bias": torch.tensor([0.0, 1.0]),
    }
    expected = (torch.sigmoid(torch.tensor(4 * 2 / 8**0.5)) + torch.sigmoid(torch.tensor(1.0))) / 2
    assert Worded(words).probabilities(["Bad, BAD day", "unheard of"]).tolist() == pytest.approx(
        [float(expected), (0.5 + 0.7310586) / 2], abs=1e-6
    )


def classifier(folder, labels, **more):
    """A random BERT of two layers with a head for these labels, and a tokenizer of four words."""
    folder.mkdir()
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "you": 2, "are": 3, "kind": 4, "rude": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
        **more,
    )  # fmt: skip
    torch.manual_seed(1)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def named(folder):
    return load(str(folder), folder.parent, lambda _: None)


def test_a_named_one_tells_how_likely_any_label_but_the_harmless_one_is(tmp_path):
    made = named(classifier(tmp_path / "two", ["Non-Toxic", "toxic"]))
    texts = ["you are kind", "you are rude rude", "", "kind"]
    both = made.probabilities(texts)
    assert both.shape == (4,) and float(both[2]) == 0.0
    turned = named(classifier(tmp_path / "turned", ["toxic", "non_toxic"])).probabilities(texts)
    assert torch.allclose(both[[0, 1, 3]], 1 - turned[[0, 1, 3]], atol=1e-6)
    alone = torch.cat([made.probabilities([text]) for text in texts])
    assert torch.allclose(both, alone, atol=1e-6), "padding changes nothing"


def test_of_several_labels_that_may_all_hold_the_likeliest_counts(tmp_path):
    labels = ["toxic", "threat", "insult"]
    made = named(classifier(tmp_path / "many", labels, problem_type="multi_label_classification"))
    assert isinstance(made, Sequenced)
    read = made._tokenizer(["you are rude"], return_tensors="pt")
    expected = torch.sigmoid(made._network(**read).logits).amax()
    assert float(made.probabilities(["you are rude"])) == pytest.approx(float(expected))


def test_no_name_means_the_packaged_one(tmp_path):
    assert load(None, tmp_path, lambda _: None) is packaged()


def test_labels_that_name_nothing_harmless_are_refused(tmp_path):
    with pytest.raises(ClassifierError, match=r"labels LABEL_0, LABEL_1: one of them must name harmless"):
        named(classifier(tmp_path / "mute", ["LABEL_0", "LABEL_1"]))


def test_a_language_model_is_no_classifier(tmp_path):
    with pytest.raises(ClassifierError, match="is no sequence classifier"):
        named(tiny_model(tmp_path / "tiny"))


def test_a_folder_that_is_not_there_and_one_with_pickled_weights_are_refused(tmp_path):
    with pytest.raises(ClassifierError, match="toxicity classifier: there is no folder"):
        named(tmp_path / "nowhere")
    folder = classifier(tmp_path / "pickled", ["safe", "toxic"])
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ClassifierError, match="pickled weights are refused"):
        named(folder)


def test_broken_files_are_refused_with_the_name(tmp_path):
    folder = classifier(tmp_path / "broken", ["safe", "toxic"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nonesuch"}))
    with pytest.raises(ClassifierError, match=r"cannot load the toxicity classifier .*broken"):
        named(folder)


def test_the_file_holds_digests_and_numbers_alone():
    from importlib import resources

    tensors = safetensors.torch.load((resources.files("feedback") / "toxicity.safetensors").read_bytes())
    words, models = tensors["weights"].shape
    assert tensors.keys() == {"words", "idf", "weights", "bias"}
    assert tensors["words"].shape == tensors["idf"].shape == (words,) and tensors["bias"].shape == (models,)
    assert len(tensors["words"].unique()) == words > 1000
