from huggingface_hub import ModelCard

from h2d.pipelines.card import write_card

SOURCES = {
    "name": "peace",
    "base": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "data": {"interhand": 60000, "hagrid": 76800},
    "hand": {"checkpoint": "runs/hand/checkpoints/last.ckpt", "sha256": "0" * 64, "step": 30000},
}


def test_header_is_what_the_hub_expects(pipeline, tmp_path):
    card = ModelCard.load(write_card(tmp_path, pipeline, SOURCES))
    assert card.data.license == "creativeml-openrail-m"
    assert card.data.base_model == SOURCES["base"]
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "text-to-image"
    assert "hands" in card.data.tags


def test_body_says_where_it_comes_from_and_how_to_load_it(pipeline, tmp_path):
    text = write_card(tmp_path, pipeline, SOURCES).read_text()
    assert "\n# peace\n" in text
    assert "TwoStagePipeline.from_pretrained" in text
    assert "| `image_size` | 64 |" in text
    assert "interhand: 60000" in text
    assert "InterHand2.6M is CC BY-NC 4.0" in text
    assert "Re:InterHand" not in text
    assert "## Limits" in text
    assert "@article{pelykh2024giving," in text


def test_tiny_and_unknown_bases(pipeline, tmp_path):
    tiny = ModelCard.load(write_card(tmp_path, pipeline, {"base": "tiny"}))
    assert (tiny.data.license, tiny.data.base_model) == ("apache-2.0", None)
    other = ModelCard.load(write_card(tmp_path, pipeline, {"base": "/models/mine"}))
    assert (other.data.license, other.data.license_name) == ("other", "that-of-the-base-model")
    assert other.data.base_model is None


def test_nothing_recorded_is_said(pipeline, tmp_path):
    text = write_card(tmp_path, pipeline, {}).read_text()
    assert f"# {tmp_path.name}" in text
    assert "Base model: not recorded" in text
